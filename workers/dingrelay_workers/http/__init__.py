"""The way of a request, whatever it asks: edge → key → rate → body → once → handler → answer."""
