"""OpenAI's clip package, by its names, for trainers that are written against it.

Trainers of CoOp's code base say `from clip import clip`, `from clip.model import build_model` and
`from clip.simple_tokenizer import SimpleTokenizer`. clip/clip.py, clip/model.py and clip/simple_tokenizer.py are these
modules; what they are made of is here. The towers are ordinary modules with the names and shapes of OpenAI's state
dicts, in fp16 as published, that a trainer takes apart and trains as it likes.

This is not the project's own interface. `clip.load` of the package returns a FrozenCLIP, the same for every model, and
the methods in trainers/ use nothing else; `clip.clip.load` returns OpenAI's pair (model, preprocess). Neither knows the
other, and `import clip` imports nothing of this folder.
"""
