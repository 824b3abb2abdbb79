"""The layers of ARCHITECTURE.md hold: an include against them does not compile, and no library sees
folders that come after its own in src/CMakeLists.txt.

Usage: test_layering.py BUILD_DIRECTORY"""
import json
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(sys.argv.pop(1)).resolve()


def commands():
    """Source file -> compiler command, of everything in src/."""
    entries = json.loads((BUILD / "compile_commands.json").read_text())
    found = {}
    for entry in entries:
        file = pathlib.Path(entry["directory"], entry["file"]).resolve()
        if file.is_relative_to(ROOT / "src"):
            found[file.relative_to(ROOT)] = (shlex.split(entry["command"]), entry["directory"])
    return found


def order():
    listing = (ROOT / "src/CMakeLists.txt").read_text()
    return re.search(r"foreach\(folder ([^)]*)\)", listing).group(1).split()


def include_paths(command, directory):
    for i, word in enumerate(command):
        for flag in ("-I", "-iquote", "-isystem"):
            if word == flag:
                yield flag, pathlib.Path(directory, command[i + 1])
            elif word.startswith(flag):
                yield flag, pathlib.Path(directory, word[len(flag):])


def is_test(file):
    return re.search(r"_(test|fuzz|benchmark)\.cc$", file.name) is not None


class Layering(unittest.TestCase):
    def compile(self, layer, text):
        """What the compiler says to `text` as a source of `layer`; empty: it compiles."""
        file, (command, directory) = next(
            (f, c) for f, c in sorted(commands().items())
            if f.parts[1] == layer and not is_test(f))
        with tempfile.TemporaryDirectory() as folder:
            source = pathlib.Path(folder, file.name)
            source.write_text(text)
            output = command.index("-o")
            command = command[:output] + command[output + 2:]
            command = [w for w in command if not w.endswith(str(file)) and w != "-c"]
            if "ccache" in command[0]:
                command = command[1:]
            run = subprocess.run(command + ["-fsyntax-only", str(source)], cwd=directory,
                                 capture_output=True, text=True)
            self.assertEqual(run.returncode == 0, run.stderr == "", run.stderr)
            return run.stderr

    def test_an_include_against_the_layers_does_not_compile(self):
        self.assertEqual(self.compile("scsi", '#include "scsi/cdb.h"\n#include "base/result.h"\n'), "")
        for layer, header in (("scsi", "ha/core.h"), ("scsi", "iscsi/pdu.h"), ("ha", "node/engine.h"),
                              ("base", "ports/disk.h"), ("node", "platform/event_loop.h")):
            with self.subTest(layer=layer, header=header):
                self.assertTrue((ROOT / "src" / header).exists())
                said = self.compile(layer, f'#include "{header}"\n')
                self.assertIn(f"'{header}' file not found", said)

    def test_what_we_ship_does_not_see_the_simulation(self):
        said = self.compile("node", '#include "simulation/scheduler.h"\n')
        self.assertIn("file not found", said)

    def test_no_library_sees_a_later_folder(self):
        folders = order()
        seen = set()
        for file, (command, directory) in commands().items():
            layer = file.parts[1]
            paths = [p for flag, p in include_paths(command, directory) if p.resolve().is_relative_to(ROOT)]
            for path in paths:
                self.assertTrue(path.is_relative_to(BUILD / "layers"),
                                f"{file} sees {path}: includes go around the layers")
                seen.add(layer)
                if is_test(file):
                    continue
                for link in path.iterdir():
                    self.assertLessEqual(folders.index(link.name), folders.index(layer),
                                         f"{file} sees {link.name}, which comes later")
        self.assertGreater(len(seen), 10)


if __name__ == "__main__":
    unittest.main()
