"""House rules over everything under version control: what a compiler does not see. Each finding says
where, and what is wrong."""
import pathlib
import re
import subprocess
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[1]
MAX_LINES = 1000
MAX_README_LINES = 20
CODE = {".cc", ".h", ".inc"}
SCRIPTS = {".py", ".sh", ".cmake", ""}


def tracked():
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    paths = [pathlib.Path(name.decode()) for name in names.split(b"\0") if name]
    return [p for p in paths if (ROOT / p).is_file()]  # one that is being deleted is no finding


def is_test(path):
    return (path.parts[0] in ("tests", "benchmarks")
            or re.search(r"(_test|_fuzz|_fixture|_bench)\.(cc|h)$", path.name) is not None
            or path.name.startswith("test_"))


class Tidy(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.files = tracked()
        cls.code = {p: (ROOT / p).read_text().splitlines() for p in cls.files if p.suffix in CODE}
        scripts = {p: (ROOT / p).read_text().splitlines() for p in cls.files
                   if p.suffix in SCRIPTS and p.parts[0] not in ("corpus",) and p.name != "LICENSE"}
        cls.sources = cls.code | scripts

    def report(self, findings):
        self.assertEqual([], findings, "\n" + "\n".join(findings))

    def grep(self, files, pattern, what):
        return [f"{path}:{number}: {what}" for path, lines in files.items()
                for number, line in enumerate(lines, 1) if re.search(pattern, line)]

    def test_there_are_sources(self):
        self.assertGreater(len(self.code), 200)

    def test_includes_do_not_climb(self):
        self.report(self.grep(self.code, r'#\s*include\s*"[^"]*\.\./', "include with '..'"))

    def test_nothing_is_left_to_do(self):
        others = {p: lines for p, lines in self.sources.items() if p.name != "tidy_test.py"}
        self.report(self.grep(others, r"\b(TODO|FIXME|XXX)\b", "left to do"))

    def test_no_file_is_endless(self):
        self.report([f"{path}: {len(lines)} lines, at most {MAX_LINES}"
                     for path, lines in self.sources.items()
                     if len(lines) > MAX_LINES])

    def test_nobody_sleeps(self):
        shipped = {p: lines for p, lines in self.code.items() if p.parts[0] == "src" and not is_test(p)}
        self.report(self.grep(shipped, r"\b(u|nano)?sleep(_for|_until)?\s*\(", "sleeps; wait for an event"))

    def test_each_exception_for_clang_tidy_has_its_reason(self):
        """`NOLINT(check): reason`, or a comment in the line above."""
        findings = []
        for path, lines in self.code.items():
            for number, line in enumerate(lines, 1):
                if not re.search(r"\bNOLINT(NEXTLINE|BEGIN)?\b", line):
                    continue
                named = re.search(r"\bNOLINT\w*\([\w.,* -]+\)", line)
                beside = re.search(r"\bNOLINT\w*\([^)]*\)\s*:\s*\S", line)
                above = number > 1 and lines[number - 2].strip().startswith("//")
                if not named or not (beside or above):
                    findings.append(f"{path}:{number}: NOLINT without check and reason")
        self.report(findings)

    def test_each_folder_says_what_it_is(self):
        findings = []
        for folder in sorted({p.parts[1] for p in self.files if p.parts[0] == "src" and len(p.parts) > 2}):
            readme = ROOT / "src" / folder / "README.md"
            if not readme.exists():
                findings.append(f"src/{folder}: no README.md")
            elif (lines := len(readme.read_text().splitlines())) > MAX_README_LINES:
                findings.append(f"src/{folder}/README.md: {lines} lines, at most {MAX_README_LINES}")
        self.report(findings)

    def listed(self, path):
        """Whether the CMakeLists.txt of its folder, or one above, names the file."""
        for folder in path.parents:
            listing = ROOT / folder / "CMakeLists.txt"
            if not listing.exists():
                continue
            name = str(path.relative_to(folder))
            if re.search(rf"(^|[\s(]){re.escape(name)}($|[\s)])", listing.read_text(), re.MULTILINE):
                return True
        return False

    def test_each_source_is_built(self):
        self.report([f"{path}: in no CMakeLists.txt" for path in self.code
                     if path.suffix == ".cc" and not self.listed(path)])

    def test_each_corpus_has_its_fuzzer_or_test(self):
        fuzzers = {p.stem for p in self.code if p.name.endswith("_fuzz.cc")}
        tests = "\n".join("\n".join(lines) for p, lines in self.code.items() if is_test(p))
        findings = []
        for folder in sorted({p.parts[1] for p in self.files if p.parts[0] == "corpus"}):
            if folder not in fuzzers and f"/{folder}/" not in tests:
                findings.append(f"corpus/{folder}: used by no fuzzer and no test")
        findings += [f"corpus/{name}: the fuzzer has no seeds" for name in sorted(fuzzers)
                     if not (ROOT / "corpus" / name).is_dir()]
        self.report(findings)


if __name__ == "__main__":
    unittest.main()
