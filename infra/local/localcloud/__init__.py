"""The embedded cloud: AWS, Azure and Google on loopback, behind their real hostnames.

It imports nothing from ``tokenvend``: a stand-in that shared our signer would share our bugs.
"""
