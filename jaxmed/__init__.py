"""Fine-tuning of ImageNet-pretrained CNNs on medical images, in JAX."""
