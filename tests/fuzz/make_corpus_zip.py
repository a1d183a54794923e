"""Make corpus/zip: the golden archives and torch streams, good and bad."""

from seeds import copy_golden

if __name__ == "__main__":
    copy_golden("zip", (".npz", ".pt", ".zip"))
