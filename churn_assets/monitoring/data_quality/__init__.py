"""Is the data of a window what the contract and the reference say?"""
