"""How a request is signed for a provider. The only room of the data plane where a credential is revealed."""
