"""openpi's way to statistics, from its description: batch by batch, quantiles from a 5,000-bin histogram.

The histogram's range grows with the data; on every growth old counts move to the bins in which the left edges
of their old ones fall, and a quantile is the left edge of the bin that reaches it.
"""

import numpy as np

BINS = 5000


class RunningHistogram:
    """Mean, standard deviation and approximate quantiles of vectors that come in batches [N, D]."""

    def __init__(self):
        self.count = 0

    def add(self, batch):
        """Take in a batch; the first needs two vectors."""
        if self.count == 0:
            self.mean, self.mean_of_squares = batch.mean(axis=0), (batch**2).mean(axis=0)
            self.low, self.high = batch.min(axis=0), batch.max(axis=0)
            self.edges = list(np.linspace(self.low, self.high, BINS + 1, axis=1))
            self.counts = np.zeros((batch.shape[1], BINS))
        else:
            share = len(batch) / (self.count + len(batch))
            self.mean = self.mean + (batch.mean(axis=0) - self.mean) * share
            self.mean_of_squares += ((batch**2).mean(axis=0) - self.mean_of_squares) * share
            low, high = batch.min(axis=0), batch.max(axis=0)
            grown = (low < self.low).any() or (high > self.high).any()
            self.low, self.high = np.minimum(self.low, low), np.maximum(self.high, high)
            if grown:
                for d, old in enumerate(self.edges):
                    self.edges[d] = np.linspace(self.low[d], self.high[d], BINS + 1)
                    self.counts[d] = np.histogram(old[:-1], bins=self.edges[d], weights=self.counts[d])[0]
        self.count += len(batch)
        for d, edges in enumerate(self.edges):
            self.counts[d] += np.histogram(batch[:, d], bins=edges)[0]

    @property
    def std(self):
        """[D], the population's."""
        return np.sqrt(np.maximum(0, self.mean_of_squares - self.mean**2))

    def quantile(self, q):
        """[D], the left edge of the bin that reaches `q`."""
        reached = [np.searchsorted(np.cumsum(counts), q * self.count) for counts in self.counts]
        return np.array([edges[i] for edges, i in zip(self.edges, reached, strict=True)])
