"""Events of OpenAI's Realtime API, as far as a gateway reads them."""
