"""Make corpus/gguf: the golden files of GGUF, good and bad."""

from seeds import copy_golden

if __name__ == "__main__":
    copy_golden("gguf", (".gguf",))
