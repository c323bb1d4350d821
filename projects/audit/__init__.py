"""The audit log: who changed what, how, from where and when.

`actor` knows who acts, `record` writes down what was done, `entry` is the row. Operations call
`record` in the transaction of their change, so that there is neither without the other.
"""
