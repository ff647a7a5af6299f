"""The operations: what producers and operators ask for, a file for what each is about.

What an operation asked for is written down in `Requests` before it is asked.
"""
