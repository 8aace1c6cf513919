"""What a snapshot means: measures, thresholds, findings and sysctls, judged once into one ``Health``."""
