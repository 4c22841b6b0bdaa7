"""Reading the configuration: files to located values, values to typed settings, and a report on every one of them."""
