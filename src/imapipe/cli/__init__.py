"""The command line `imapipe`; it needs the extra `imapipe[cli]`."""
