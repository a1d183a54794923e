"""Make corpus/safetensors: the golden files of safetensors, good and bad."""

from seeds import copy_golden

if __name__ == "__main__":
    copy_golden("safetensors", (".safetensors",))
