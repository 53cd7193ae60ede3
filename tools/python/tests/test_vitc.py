"""The Python package on the bundled models: python3 -m unittest discover tools/python/tests"""
import gc
import pathlib
import tempfile
import threading
import unittest

import numpy as np

import vitc

ROOT = pathlib.Path(__file__).resolve().parents[3]
TEACHER = ROOT / "golden/compat/v1/teacher.vmod"
FASHION = ROOT / "golden/teacher/fashion-vit.onnx"
PASSES = "score{images=8},swap{mixer=glr,layers=[0]},distil{steps=2,batch=8,images=16},solve{images=16},trim"


def images(model, count=3):
    shape = [count if n is None else n for n in model.inputs[0].shape]
    return np.random.default_rng(0).standard_normal(shape, np.float32)


class Models(unittest.TestCase):
    def test_says_what_goes_in_and_out(self):
        model = vitc.load(FASHION)
        self.assertEqual(model.inputs[0].shape[1:], (1, 28, 28))
        self.assertEqual(model.inputs[0].dtype, np.float32)
        self.assertIsNone(model.inputs[0].shape[0])
        self.assertEqual(model.image_shape, (1, 28, 28))
        self.assertGreater(model.parameter_count, 600_000)
        self.assertIn(f"{model.parameter_count:,}", repr(model))

    def test_runs_as_its_golden_says(self):
        x, y = (np.load(ROOT / f"golden/compat/v1/{name}.npy") for name in ("image", "teacher.vmod"))
        model = vitc.load(TEACHER)
        np.testing.assert_allclose(model.run(x.reshape([len(x) if x.ndim == 4 else 1, *model.inputs[0].shape[1:]])).ravel(),
                                   y.ravel(), rtol=1e-4, atol=1e-5)

    def test_takes_arrays_of_any_layout(self):
        model = vitc.load(TEACHER, threads=1)
        x = images(model)
        y = model.run(x)
        self.assertEqual(y.dtype, np.float32)
        turned = np.asfortranarray(x)
        wide = np.zeros((*x.shape, 2), np.float64)
        wide[..., 1] = x
        for same in turned, x[::-1].copy()[::-1], wide[..., 1], x.astype(">f4"):
            np.testing.assert_array_equal(model.run(same), y)
        np.testing.assert_array_equal(model.run(**{model.inputs[0].name: x}), y)
        np.testing.assert_allclose(model(x.astype(np.float16)), y, atol=0.05)

    def test_opens_bytes(self):
        model = vitc.load(TEACHER.read_bytes(), name="some bytes")
        x = images(model)
        np.testing.assert_array_equal(model.run(x), vitc.load(str(TEACHER)).run(x))
        with self.assertRaises(vitc.Error) as caught:
            vitc.load(b"nothing", name="some bytes")
        self.assertIn("some bytes", str(caught.exception))

    def test_runs_on_several_threads(self):
        model = vitc.load(TEACHER)
        x = images(model)
        wanted, wrong = model.run(x), []

        def work():
            for _ in range(10):
                if not np.array_equal(model.run(x), wanted):
                    wrong.append(1)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertFalse(wrong)

    def test_prepares_images(self):
        model = vitc.load(FASHION)
        path = ROOT / "golden/fuzz/images/gray.png"
        prepared = model.prepare(path)
        self.assertEqual(prepared.shape, (1, 28, 28))
        np.testing.assert_array_equal(prepared, model.prepare(path.read_bytes()))
        pixels = np.arange(28 * 28, dtype=np.uint32).astype(np.uint8).reshape(28, 28)
        np.testing.assert_array_equal(model.prepare(pixels), model.prepare(np.asfortranarray(pixels)[..., None]))
        with self.assertRaises(TypeError):
            model.prepare(pixels.astype(np.float32))

    def test_says_what_is_wrong(self):
        with self.assertRaises(vitc.Error) as caught:
            vitc.load("/nowhere/m.vmod")
        self.assertEqual((caught.exception.code, caught.exception.status), ("missing-file", 3))
        model = vitc.load(TEACHER)
        with self.assertRaises(vitc.Error):
            model.run(images(model)[:, :, :3])
        for wrong in (), (images(model), 1):
            with self.assertRaises(TypeError):
                model.run(*wrong)
        with self.assertRaises(TypeError):
            model.run(np.array(["text"]))
        with self.assertRaises(vitc.Error):
            vitc.load(TEACHER, precision="int3")


class Commands(unittest.TestCase):
    def test_compiles(self):
        with tempfile.TemporaryDirectory() as folder:
            out, heard = pathlib.Path(folder) / "h.vmod", []
            report = vitc.compile(TEACHER, out, data="synthetic:64", passes=PASSES, reproducible=True, progress=heard.append)
            self.assertIn("distil", {step.phase for step in heard})
            self.assertTrue(all(step.done <= step.total for step in heard))
            self.assertIsInstance(report, dict)
            model = vitc.load(out)
            self.assertEqual(model.run(images(model)).shape[0], 3)
            again = pathlib.Path(folder) / "again.vmod"
            work = vitc.compiling(TEACHER, again, data="synthetic:64", passes=PASSES, reproducible=True)
            self.assertIn("distil", {step.phase for step in work})
            self.assertEqual(again.read_bytes(), out.read_bytes())
            for part in "parameters", "flops", "bytes":
                self.assertEqual(work.report["hybrid"][part], report["hybrid"][part])
            self.assertIn("no differences", vitc.command("diff", out, again))
            with self.assertRaises(vitc.Error) as caught:
                vitc.command("diff", out, TEACHER)
            self.assertEqual(caught.exception.status, 1)
            self.assertTrue(vitc.command("diff", out, TEACHER, allow_failed_check=True))

    def test_stops(self):
        options = dict(data="synthetic:64", select="first", distil_steps=50000, fine_tune_steps=1)
        with tempfile.TemporaryDirectory() as folder:
            out = pathlib.Path(folder) / "h.vmod"
            with vitc.compiling(TEACHER, out, **options) as work:
                next(step for step in work if step.phase == "distil")
            self.assertFalse(out.exists())
            before = threading.active_count()
            work = vitc.compiling(TEACHER, out, **options)
            next(work)
            thread = work._thread
            del work
            gc.collect()
            thread.join(60)
            self.assertFalse(thread.is_alive())
            self.assertEqual(threading.active_count(), before)

            def failing(_):
                raise KeyError("mine")

            with self.assertRaises(KeyError):
                vitc.compile(TEACHER, out, progress=failing, **options)
            self.assertFalse(out.exists())

    def test_wrong_options(self):
        with self.assertRaises(vitc.Error) as caught:
            vitc.compile(TEACHER, "x.vmod", no_such_option=3)
        self.assertEqual(caught.exception.status, 2)
        self.assertIn("vitc", vitc.command("--version"))


if __name__ == "__main__":
    unittest.main()
