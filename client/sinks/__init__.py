"""Where events go: files, MQTT, webhooks, pictures."""
