"""The language of the service: frozen, versioned values, shared by API, store, worker and client."""
