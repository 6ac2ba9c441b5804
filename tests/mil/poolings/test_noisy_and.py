import math

PARAMETERS = [{"slope": 3.0}]


def sigm(x):
    return 1 / (1 + math.exp(-x))


def prepare(pool):
    pool.threshold.fill_(-0.4)


def p_of_logits(logits, slope=10.0):
    b, m = sigm(-0.4), sum(map(sigm, logits)) / len(logits)
    low = sigm(-slope * b)
    return (sigm(slope * (m - b)) - low) / (sigm(slope * (1 - b)) - low)
