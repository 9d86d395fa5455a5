"""Operations: what is done with a batch of messages on a connection."""
