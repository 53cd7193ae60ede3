// classify MODEL IMAGE: what a vision transformer sees in an image.
#include <stdio.h>
#include <stdlib.h>
#include <vitc.h>

static int failed(vitc_error *error) {
  fprintf(stderr, "%s\n", vitc_error_text(error));
  vitc_error_free(error);
  return 1;
}

static void *contents(const char *path, size_t *size) {
  FILE *file = fopen(path, "rb");
  if (!file) return NULL;
  long end = fseek(file, 0, SEEK_END) ? -1 : ftell(file);
  rewind(file);
  *size = end < 0 ? 0 : (size_t)end;
  void *bytes = end < 0 ? NULL : malloc(*size + 1);
  if (bytes && fread(bytes, 1, *size, file) != *size) {
    free(bytes);
    bytes = NULL;
  }
  fclose(file);
  return bytes;
}

int main(int count, char **words) {
  if (count != 3) {
    fprintf(stderr, "usage: classify MODEL IMAGE\n");
    return 2;
  }
  vitc_error *error = NULL;
  vitc_model *model = NULL;
  vitc_session *session = NULL;
  if (vitc_model_open(words[1], NULL, &model, &error)) return failed(error);
  if (vitc_session_open(model, 0, &session, &error)) return failed(error);

  // One image, behind an axis of one.
  int64_t shape[VITC_MAX_RANK] = {1};
  size_t rank = VITC_MAX_RANK - 1, pixels = 1, size;
  if (vitc_image_shape(model, shape + 1, &rank, &error)) return failed(error);
  for (size_t axis = 1; axis <= rank; axis++) pixels *= (size_t)shape[axis];
  float *image = malloc(pixels * sizeof *image);
  void *bytes = contents(words[2], &size);
  if (!bytes || !image) {
    fprintf(stderr, "%s: cannot be read\n", words[2]);
    return 1;
  }
  if (vitc_image_prepare(model, bytes, size, image, pixels, &error)) return failed(error);

  vitc_tensor input = {VITC_F32, image, rank + 1, shape, NULL};
  int64_t classes[VITC_MAX_RANK];
  size_t axes = VITC_MAX_RANK;
  if (vitc_session_output_shape(session, &input, 1, 0, classes, &axes, &error)) return failed(error);
  size_t scores = 1;
  for (size_t axis = 0; axis < axes; axis++) scores *= (size_t)classes[axis];
  float *score = malloc(scores * sizeof *score);
  vitc_tensor output = {VITC_F32, score, axes, classes, NULL};
  if (vitc_session_run(session, &input, 1, &output, 1, &error)) return failed(error);

  size_t best = 0;
  for (size_t place = 1; place < scores; place++)
    if (score[place] > score[best]) best = place;
  const char *label = vitc_model_label(model, best);
  printf("class %zu%s%s, %.4f\n", best, label ? " " : "", label ? label : "", score[best]);

  free(score), free(bytes), free(image);
  vitc_session_free(session);
  vitc_model_free(model);
  return 0;
}
