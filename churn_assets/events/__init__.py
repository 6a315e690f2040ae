"""Events: what the log and the ledger hold, relayed to the topics of a Kafka broker; and labels taken from one.

The service knows nothing of it: the segments of the prediction log are the outbox that the relay follows.
"""
