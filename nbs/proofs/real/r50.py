"""Kim (2014) text CNN for question-type classification with pretrained word vectors and early stopping on dev."""
import copy
from collections import Counter
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

torch.set_num_threads(1)

STYLE = 'Shawn1993/cnn-text-classification-pytorch and Kim 2014 (CNN-non-static): Vocab with <pad> and <unk>, bucketed batches, Conv2d over (kernel, embed_dim), max over time, dropout 0.5, Adadelta with max-norm constraint, early stopping on dev loss'
FAULTS = {
    'best_loss_starts_at_zero': 'The best dev value starts at 0 although it is a loss that is watched, so no epoch ever counts as better: training stops after the patience and the initial weights are restored.',
    'sorted_by_length_without_labels': 'Inside each pool the sentences are sorted by length for less padding, but the labels are not sorted along, so the sentences are trained with the labels of others.',
    'word_dropout_inverted': 'The mask of the word dropout is used the wrong way round: 85 percent of the words are replaced by <unk> and only 15 percent kept, so hardly any key phrase survives in training.',
    'vectors_without_special_rows': 'The pretrained vectors are copied to the first rows of the embedding, forgetting the two rows of <pad> and <unk>, so each word gets the vector of another word and the synonyms are lost.',
    'file_order_not_shuffled': 'The batches run through the training file in its order, which lists one class after the other, so the network forgets the earlier classes in each epoch.',
}

SEED = 50
NUM_CLASSES, EMBED_DIM = 6, 50


class Questions:
    """Sentences of groups of synonyms; the class lies in the order of three neighbouring groups, with broken decoys."""

    def __init__(self, rng, num_groups=48, group_size=60):
        self.num_groups, self.group_size = num_groups, group_size
        centre = rng.normal(0, 1, (num_groups, EMBED_DIM))
        names = rng.permutation(num_groups * group_size)
        self.words = [[f'w{names[g * group_size + k]}' for k in range(group_size)] for g in range(num_groups)]
        self.vectors = {w: 0.3 * (centre[g] + 0.5 * rng.normal(0, 1, EMBED_DIM)) for g in range(num_groups) for w in self.words[g]}
        self.patterns = [[rng.choice(24, 3, replace=False) for _ in range(3)] for _ in range(NUM_CLASSES)]

    def sentence(self, label, rng):
        groups = list(rng.integers(0, self.num_groups, rng.integers(3, 22)))
        at = rng.integers(0, len(groups) + 1)
        decoy = self.patterns[rng.integers(0, NUM_CLASSES)][rng.integers(0, 3)][[0, 2, 1]]
        pattern = self.patterns[label][rng.integers(0, 3)]
        parts = [groups[:at], groups[at:]]
        if rng.random() < 0.5:
            groups = parts[0] + list(pattern) + parts[1] + list(decoy)
        else:
            groups = list(decoy) + parts[0] + list(pattern) + parts[1]
        return [self.words[g][int(self.group_size * rng.random() ** 1.5)] for g in groups]

    def file(self, n, rng):
        labels = np.sort(rng.integers(0, NUM_CLASSES, n))
        return [self.sentence(y, rng) for y in labels], labels


class Vocab:
    def __init__(self, sentences, extra):
        counts = Counter(w for s in sentences for w in s)
        self.words = sorted(extra, key=lambda w: (-counts[w], w))
        self.itos = ['<pad>', '<unk>'] + self.words
        self.stoi = {w: i for i, w in enumerate(self.itos)}

    def encode(self, sentence):
        return [self.stoi.get(w, 1) for w in sentence]


def pad(sentences, min_len=5):
    length = max(min_len, max(len(s) for s in sentences))
    return torch.tensor([s + [0] * (length - len(s)) for s in sentences])


def bucket_batches(sentences, labels, batch_size, rng, fault=''):
    """Shuffled pools of twenty batches, each sorted by length for little padding, batches in any order."""
    order = np.arange(len(sentences))
    if fault != 'file_order_not_shuffled':
        order = rng.permutation(len(sentences))
    batches = []
    for k in range(0, len(order), batch_size * 20):
        pool = order[k:k + batch_size * 20]
        by_length = sorted(pool, key=lambda i: len(sentences[i]))
        pool_labels = pool if fault == 'sorted_by_length_without_labels' else by_length
        if fault == 'file_order_not_shuffled':
            by_length = pool_labels = pool
        for j in range(0, len(pool), batch_size):
            x = pad([sentences[i] for i in by_length[j:j + batch_size]])
            batches.append((x, torch.tensor([labels[i] for i in pool_labels[j:j + batch_size]])))
    if fault != 'file_order_not_shuffled':
        rng.shuffle(batches)
    return batches


def word_dropout(x, p, fault=''):
    drop = torch.rand(x.shape) < p
    if fault == 'word_dropout_inverted':
        drop = ~drop
    return x.masked_fill(drop & (x != 0), 1)


class TextCNN(nn.Module):
    def __init__(self, num_embeddings, kernel_num=60, kernel_sizes=(3, 4, 5), dropout=0.5):
        super().__init__()
        self.embed = nn.Embedding(num_embeddings, EMBED_DIM, padding_idx=0)
        self.convs = nn.ModuleList([nn.Conv2d(1, kernel_num, (k, EMBED_DIM)) for k in kernel_sizes])
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(len(kernel_sizes) * kernel_num, NUM_CLASSES)

    def forward(self, x):
        x = self.embed(x).unsqueeze(1)
        x = [F.relu(conv(x)).squeeze(3) for conv in self.convs]
        x = [F.max_pool1d(c, c.size(2)).squeeze(2) for c in x]
        return self.fc(self.dropout(torch.cat(x, 1)))


@torch.no_grad()
def evaluate(model, sentences, labels):
    """Mean loss and accuracy."""
    model.eval()
    logits = torch.cat([model(pad(sentences[k:k + 100])) for k in range(0, len(sentences), 100)])
    labels = torch.as_tensor(labels)
    return F.cross_entropy(logits, labels).item(), (logits.argmax(1) == labels).float().mean().item()


def build():
    torch.manual_seed(SEED)
    return (TextCNN(48 * 60 + 2),)


def train(models, fault=''):
    model = models[0]
    torch.manual_seed(SEED)
    rng = np.random.default_rng(SEED)
    batch_size, max_epochs, patience = 50, 25, 4
    questions = Questions(rng)
    sentences, labels = questions.file(2400, rng)
    test_sentences, test_labels = questions.file(1000, rng)
    vocab = Vocab(sentences, list(questions.vectors))
    vectors = torch.tensor(np.array([questions.vectors[w] for w in vocab.words]), dtype=torch.float32)
    with torch.no_grad():
        if fault == 'vectors_without_special_rows':
            model.embed.weight[:len(vectors)] = vectors
        else:
            model.embed.weight[2:] = vectors
            model.embed.weight[1].uniform_(-0.25, 0.25)
        model.embed.weight[0].zero_()

    sentences = [vocab.encode(s) for s in sentences]
    test_sentences = [vocab.encode(s) for s in test_sentences]
    is_dev = np.zeros(len(sentences), dtype=bool)
    is_dev[rng.choice(len(sentences), 400, replace=False)] = True
    train_idx, dev_idx = np.where(~is_dev)[0], np.where(is_dev)[0]
    train_x, train_y = [sentences[i] for i in train_idx], labels[train_idx]
    dev_x, dev_y = [sentences[i] for i in dev_idx], labels[dev_idx]

    optimizer = torch.optim.Adadelta(model.parameters(), lr=1.0, rho=0.95, eps=1e-6)
    best_loss = 0.0 if fault == 'best_loss_starts_at_zero' else float('inf')
    best_state, waited = copy.deepcopy(model.state_dict()), 0
    for epoch in range(max_epochs):
        model.train()
        for x, y in bucket_batches(train_x, train_y, batch_size, rng, fault):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(word_dropout(x, 0.15, fault)), y)
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                model.fc.weight.copy_(torch.renorm(model.fc.weight, 2, 0, 3.0))
        dev_loss, _ = evaluate(model, dev_x, dev_y)
        if dev_loss < best_loss:
            best_loss, best_state, waited = dev_loss, copy.deepcopy(model.state_dict()), 0
        else:
            waited += 1
            if waited >= patience:
                break

    model.load_state_dict(best_state)
    return evaluate(model, test_sentences, test_labels)[1]


if __name__ == '__main__':
    print(train(build()))
