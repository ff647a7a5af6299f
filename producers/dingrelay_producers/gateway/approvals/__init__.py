"""``/v1/approvals/{instance}``: what became of approvals, and what can be done to them."""
