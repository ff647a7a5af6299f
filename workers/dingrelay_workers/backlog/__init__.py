"""What waits, and until when: counted by application, lane, kind and sender."""
