"""What numbers and texts can be at the most, in settings and in flags: far beyond any use, and still harmless."""

MOST = 1_000_000  # of anything that is gone through one by one: more pictures, or more rounds, take a machine's life
FEW = 1_000  # of anything that is in memory, or on one page, all at once
WIDEST = 2**14  # features of a layer: several times what the widest published networks of this kind have
SHARPEST = 10.0  # of a word's look at the regions: float16 cannot hold the exponential of 12
LARGEST = 1e9  # seconds: 31 years; as a weight or rate it leaves nothing of float32's seven digits for the rest
LONGEST = 4096  # characters of a text: the longest path of Linux
FEWEST_BIRDS = 56  # of the toy set: one of each class
LAST_SEED = 2**63 - 1  # of one picture or set; the server takes the same
