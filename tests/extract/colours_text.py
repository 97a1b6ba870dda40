"""A backbone of one's own as the text of a module, for processes that have to import it."""

COLOURS = """
class Colours:
    dim, num_frames, fingerprint = 3 * 64, 1, "colours 8 x 8, version 1"

    def __init__(self, device):
        pass

    def preprocess(self, pictures):
        from torch.nn.functional import adaptive_avg_pool2d

        return adaptive_avg_pool2d(pictures.permute(0, 3, 1, 2) / 255, 8)

    def __call__(self, pixels):
        return pixels.flatten(1)
"""
