"""What is asked of a store from the outside, a module for each topic; `service.queries` is where they meet.

Nothing is decided here: each answer is put together from what other modules of the service say and do.
"""
