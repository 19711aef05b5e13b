"""From a trained prompt to answers: Predictor, PromptClassifier, predict.py, exports, heat maps, learned words."""
