"""OpenAI's clip package under its own names, for trainers written against it.

Trainers for CoOp's code base write `from clip import clip`, `from clip.model import build_model` and
`from clip.simple_tokenizer import SimpleTokenizer`. clip/clip.py, clip/model.py and clip/simple_tokenizer.py provide
these modules; this folder holds their parts. The towers are ordinary modules with the names and shapes of OpenAI's
state dicts, in fp16 as published, which a trainer may take apart and train as it likes.

This is not the project's own interface. The package's `clip.load` returns a FrozenCLIP, the same class for every model,
and the methods in trainers/ use nothing else; `clip.clip.load` returns OpenAI's pair (model, preprocess). The two are
independent, and `import clip` imports nothing from this folder.
"""
