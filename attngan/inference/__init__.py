"""A trained model that is ready to draw, and the forms it travels in: bundle, gallery, ONNX, the authors' weights.

Open `text_to_image.py` first; `weights.py` builds networks from settings and writes and reads their weights,
`trained_encoders.py` the folder that DAMSM pretraining leaves, `published.py` networks that others trained. Imports
pages, data and all below.
"""
