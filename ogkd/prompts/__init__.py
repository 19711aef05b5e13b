"""Teacher prompts: written sentences for each class of each data set (<DATASET>.json), and how they are read."""
