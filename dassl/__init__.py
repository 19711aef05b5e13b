"""A toolbox for training image classifiers with the public interface of Dassl.pytorch, on today's PyTorch."""
