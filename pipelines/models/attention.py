"""Which of torch's attention kernels compute on a GPU."""


def leave_out_cudnn_attention() -> None:
    """Have torch choose among its other attention kernels, in this whole process.

    In half precision torch prefers cuDNN's, which is planned anew for each length of a batch that
    it has not seen. Batches here have almost as many lengths as there are batches, and an answer
    is one token longer at each step: the plans take longer than the attention.
    """
    import torch

    torch.backends.cuda.enable_cudnn_sdp(False)
