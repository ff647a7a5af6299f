"""The people that an app's messages can reach: told before a call, as far as that is surely known."""
