"Which kinds of findings would name each mistake, written down from its sentence alone; some have none"
NAMED = dict(
    r01=dict(mixup_lambda_swapped='', val_not_normalized='validation_differs', never_back_to_train='eval_mode', folder_order_not_shuffled='unshuffled'),
    r02=dict(batch_first_missing='mixed_samples', flip_breaks_label='not_learning', pos_embed_not_trained='not_in_optimizer frozen order_unknown', onecycle_stepped_per_epoch='schedule lr_too_low'),
    r03=dict(targets_not_shifted='target_seen', causal_mask_missing='target_seen', logits_viewed_not_transposed='mixed_dimensions', warmup_longer_than_run='schedule lr_too_low'),
    r04=dict(decoder_input_not_shifted='target_seen', padding_mask_inverted='padding_seen', only_source_sorted='not_learning', ignore_index_eos='padding_counted'),
    r05=dict(labels_cloned_after_masking='target_seen', attention_mask_convention='padding_seen', finetune_lr_of_pretraining_times_ten='lr_too_high diverged dead_units', mlm_optimizer_reused='not_in_optimizer'),
    r06=dict(labels_left_by_sort='not_learning', last_column_of_padded_output='padding_seen', final_state_viewed='mixed_samples mixed_dimensions', vocab_from_validation_set='validation_differs'),
    r07=dict(digits_share_the_blank='', viewed_to_time_first='mixed_dimensions mixed_samples', target_lengths_of_padding='', width_pooled_away_zero_infinity=''),
    r08=dict(negatives_with_wrong_sign='', mean_loss_with_word2vec_lr='lr_too_low', context_table_not_in_optimizer='not_in_optimizer', negatives_from_neighbouring_pairs=''),
    r09=dict(loss_broadcasts='shape_mismatch', window_centred_target_not='', horizon_ignored='target_seen', chomp_on_the_wrong_side=''),
    r10=dict(mask_not_flipped='not_learning', dice_not_subtracted='', mask_in_0_255='output_mismatch unnormalised_targets', sigmoid_in_the_net_too='double_softmax'),
    r11=dict(recon_mean_kl_sum='collapsed', sample_without_grad='frozen', sigmoid_twice='double_softmax', normalized_targets='output_mismatch'),
    r12=dict(penalty_no_graph='', generator_sign='', real_not_rescaled='', noise_drawn_once='same_batch'),
    r13=dict(alphas_not_cumulative='', time_not_passed='unused_input', fresh_noise_target='not_learning', ema_too_slow=''),
    r14=dict(one_view_twice='', wrong_positive_index='', times_temperature='', encoder_not_optimized='not_in_optimizer'),
    r15=dict(edges_not_offset='', scatter_overwrites='', pool_whole_batch='mixed_samples', bond_types_interleaved=''),
    r16=dict(done_not_masked='', target_never_synced='not_in_optimizer', q_target_broadcast='shape_mismatch', state_by_reference=''),
    r17=dict(target_in_history='target_seen leak', positives_only='collapsed output_mismatch', codes_refitted='validation_differs', labels_not_interleaved='not_learning'),
    r18=dict(a_and_b_zero='frozen same_units no_steps', lora_frozen_too='frozen no_steps', merged_and_active='', scale_times_rank='lr_too_high diverged exploding'),
    r19=dict(logdet_over_batch='shape_mismatch mixed_samples', prior_mean_over_dims='', masks_all_same='', condition_left_out='unused_input frozen'),
    r20=dict(flip_image_only='not_learning', size_loss_unmasked='', xy_swapped='', boxes_sorted_without_classes='not_learning'))
MISSED = {}
