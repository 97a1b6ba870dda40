"""Language models that read past actions as text: the teacher, and masked-LM training."""
