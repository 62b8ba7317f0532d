"""The precision ladder: one file a rung, each a transform of the fp32 graph of a submodule."""
