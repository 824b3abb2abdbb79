"""A pair whose nodes are machines on a network of their own, with managed service addresses."""

import socket

import pair as pair_module


class NetworkPair(pair_module.Pair):
    """`lan`: lan.Lan. `service`: the addresses of the two identities."""

    def __init__(self, lan, service, prefix, **options):
        self.lan = lan
        self.service_keys = f'interface = "cli0"\nprefix = {prefix}\n'
        super().__init__(**options)
        for node, address in zip(self.nodes.values(), service):
            node.service_address = address

    def choose_network(self):
        return "10.79.0"

    def enter(self, where):
        return self.lan["switch" if where == "shelf" else where].enter()

    def answers(self, host):
        def dial():
            with socket.socket() as s:
                s.settimeout(1)
                return s.connect_ex((host, pair_module.ISCSI_PORT)) == 0

        return self.lan["switch"].call(dial)
