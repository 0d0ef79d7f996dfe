"""The networks of AttnGAN; they know nothing of settings, files or losses.

Open `generator.py` first.
"""
