/* A filter: images of floats from standard input, codes of the output to standard output. */
#include <stdio.h>

#include MODEL_HEADER

int main(void) {
    static float image[MODEL_INPUT_SIZE];
    while (fread(image, sizeof *image, MODEL_INPUT_SIZE, stdin) == MODEL_INPUT_SIZE) {
        model_load(image);
        if (fwrite(model_run(), 1, MODEL_OUTPUT_SIZE, stdout) != MODEL_OUTPUT_SIZE) return 1;
    }
    return ferror(stdin) != 0;
}
