"""The use cases, one module a topic: decide, effect, settle. The API of all doors; imports rules, index and roots."""
