"""The Bedrock Converse dialect: Converse, ConverseStream and CountTokens.

Source: botocore 1.44's service model `bedrock-runtime` 2023-09-30, and the Amazon Bedrock user guide.
"""
