"""Make corpus/npy: the golden files of npy, good and bad."""

from seeds import copy_golden

if __name__ == "__main__":
    copy_golden("npy", (".npy",))
