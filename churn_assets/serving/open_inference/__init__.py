"""The Open Inference Protocol (V2) over REST and gRPC: other forms of the same requests, for the same handlers.

`tensors` knows bytes and types, `customers` makes customers of tensors and tensors of predictions; both are pure.
"""
