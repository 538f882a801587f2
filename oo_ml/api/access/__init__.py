"""Access to the calls: requests of browsers, API keys and their scopes, for the hot routes as well."""
