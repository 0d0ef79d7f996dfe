"""AttnGAN (Xu et al., CVPR 2018): pictures from sentences, as a library and a Kubeflow pipeline."""

__version__ = "0.1.0"
