"""The Gemini dialect: generateContent, streamGenerateContent and countTokens, as Gemini API and Vertex AI speak them.

Source: the official Python SDK 3.4 (`google.genai.types` and the transforms of its `models`), and the discovery
document of aiplatform v1beta1.
"""
