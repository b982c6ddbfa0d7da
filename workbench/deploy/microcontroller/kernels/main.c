/* A filter for a computer: images of floats in, codes of the output out. */
#include <stdio.h>

#include "model.h"

int main(void) {
    static float image[MODEL_INPUT_SIZE];
    while (fread(image, sizeof *image, MODEL_INPUT_SIZE, stdin) == MODEL_INPUT_SIZE) {
        model_load(image);
        if (fwrite(model_run(), 1, MODEL_OUTPUT_SIZE, stdout) != MODEL_OUTPUT_SIZE) return 1;
    }
    return ferror(stdin) != 0;
}
