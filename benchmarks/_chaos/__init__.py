"""What chaos.py and the tests of interrupted runs share: a small project, processes that can be killed, and the comparison."""
