"""RadiomicGAN with Dynamic Window Training (Selim et al., CT image harmonization for enhancing radiomics, 2021)."""
