"""Messages about events: templates, the words of each language, and mails made of them. With the extra `messages`."""
