"""The steps of the Triton ensembles: numpy and the standard library; pycuda where one has a GPU.

Export copies this folder, `fgmclip.serve.runtimes` and `fgmclip.kernels` into every release, so a
stock Triton container serves a repository without installing this package.
"""
